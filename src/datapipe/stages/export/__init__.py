# SPDX-License-Identifier: Apache-2.0
"""Export: models as quantised files that were opened again before anyone is told of them."""
