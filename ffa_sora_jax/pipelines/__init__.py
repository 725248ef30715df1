"""What a user calls: whole models with their tokenizer and sampler."""
