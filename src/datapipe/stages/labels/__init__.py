# SPDX-License-Identifier: Apache-2.0
"""Labels: which are wrong, how many are, and what several annotators together say."""
