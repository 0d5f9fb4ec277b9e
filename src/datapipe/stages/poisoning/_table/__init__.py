# SPDX-License-Identifier: Apache-2.0
"""What `trigger_table` rests on: predicates, what they carry, and whether they stand alone."""
