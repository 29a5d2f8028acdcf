"""How good a synthesised image is: metrics, scores per region, and the tables that hold them."""
