"""A chunk through one layer of a stage: by a pull of constant weights, by gathering, or by pushing."""
