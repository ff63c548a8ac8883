"""What optimizers of whole matrices compute: functions of arrays, without a rule, a slot or a tree."""
