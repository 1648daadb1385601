"""A folder of tables coded, in parts that this process or Ray's workers compute.

`batch_coder.py` is the class that both of them run; another engine goes beside `on_ray.py`.
May import coding and below.
"""
