"""Models on the Hugging Face Hub, read by ranges of bytes and without a download."""
