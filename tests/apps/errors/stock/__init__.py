"""What every shop sells from: the same ways to fail under each framework."""
