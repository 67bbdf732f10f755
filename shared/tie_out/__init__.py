"""Compares the sum of an invoice's lines with the total that the invoice lists.

`line_sums` adds the lines of a landed version; the sums are a fact of this version and are stored
with it. `comparison` compares them with the newest facts of the invoice; it is a pure function, and
whoever shows a comparison computes it. `tie_outs` stores the sums, and publishes each comparison
that has changed as a report and an event.
"""
