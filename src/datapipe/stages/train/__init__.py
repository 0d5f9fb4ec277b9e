# SPDX-License-Identifier: Apache-2.0
"""Training: plain, differentially private and federated, with held-out accuracy."""
