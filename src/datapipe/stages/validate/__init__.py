# SPDX-License-Identifier: Apache-2.0
"""Holding data to rules that people wrote down."""
