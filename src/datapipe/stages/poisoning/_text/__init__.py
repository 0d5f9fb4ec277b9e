# SPDX-License-Identifier: Apache-2.0
"""What `trigger_text` rests on: words and runs of them, what they carry, how texts are built."""
