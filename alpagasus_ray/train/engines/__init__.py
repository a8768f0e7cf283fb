"""Ways to hold a model and its optimizer: one file each, all with the methods of base.Engine."""
