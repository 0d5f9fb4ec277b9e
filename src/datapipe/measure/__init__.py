# SPDX-License-Identifier: Apache-2.0
"""Statistics that families share: numpy only."""
