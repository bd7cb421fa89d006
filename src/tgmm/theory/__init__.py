"""The paper's two theorems as programs: transformers with constructed weights, run beside what they imitate."""
