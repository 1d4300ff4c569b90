"""What an institution computes in a round: integer sums of bounded per-borrower gradients."""
