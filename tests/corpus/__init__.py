"""A hospital's exams and tables, made from phantoms, with everything that goes wrong in them."""
