"""What rules of whole matrices are written in: which axes are rows and columns, and functions of matrices."""
