"""What a trained component-token network does inside, beside what EM does: linear probes, read-outs, attention."""
