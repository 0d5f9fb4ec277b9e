# SPDX-License-Identifier: Apache-2.0
"""Rows that say the same thing twice: equal, nearly equal in text, nearly equal in numbers."""
