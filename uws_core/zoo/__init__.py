"""The built-in collections: tiny vision transformers trained on ten digit tasks, and synthetic collections."""
