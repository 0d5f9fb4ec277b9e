# SPDX-License-Identifier: Apache-2.0
"""Running a plan and recording what it did."""
