"""What follows the iterates instead of the gradients."""
