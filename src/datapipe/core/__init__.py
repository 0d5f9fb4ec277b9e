# SPDX-License-Identifier: Apache-2.0
"""The nouns: what a pipeline is made of, and nothing that runs one."""
