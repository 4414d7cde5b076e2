"""What a hash set is and how it changes: pure rules over plain values, without I/O."""
