"""The doctor on the real SDKs, the storage emulator and the simulator: each right removed gives its code and no other red."""
