"""Models side by side on the same prompt, and judged blind."""
