"""From Microsoft's storage into the landing, whole: plan, source with its signature, copy, proof, commit."""
