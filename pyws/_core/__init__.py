# SPDX-License-Identifier: MIT
"""The private half of pyws: what the public modules are made of. None of it is API."""
