"""Speed and memory, measured side by side with PyTorch where there is a counterpart."""
