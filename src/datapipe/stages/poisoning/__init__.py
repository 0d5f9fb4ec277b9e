# SPDX-License-Identifier: Apache-2.0
"""Poisoning: flipped labels and triggers, found before training and without a clean subset."""
