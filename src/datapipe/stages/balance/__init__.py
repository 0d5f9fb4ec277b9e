# SPDX-License-Identifier: Apache-2.0
"""Who is in the data, how often, and whether groups are treated alike."""
