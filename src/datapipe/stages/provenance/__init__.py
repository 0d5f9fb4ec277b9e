# SPDX-License-Identifier: Apache-2.0
"""Where rows come from: who signed them, and under which terms they may be used."""
