"""Taking a trained model elsewhere: a folder with its card, programs for other runtimes, and weights under other libraries' names."""
