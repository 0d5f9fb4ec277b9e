# SPDX-License-Identifier: Apache-2.0
"""Columns into numbers."""
