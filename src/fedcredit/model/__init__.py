"""Model families and the layout that maps their parameters to one vector in named blocks."""
