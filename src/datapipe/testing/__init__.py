# SPDX-License-Identifier: Apache-2.0
"""What authors of stages run."""
