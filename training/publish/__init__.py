"""What a training run gives to others: weights, a model card, a folder for the Hub."""
