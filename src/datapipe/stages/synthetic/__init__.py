# SPDX-License-Identifier: Apache-2.0
"""How much of the data a machine made: what is declared is counted, the rest is estimated."""
