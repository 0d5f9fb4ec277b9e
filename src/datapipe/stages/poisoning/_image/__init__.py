# SPDX-License-Identifier: Apache-2.0
"""What `trigger_image` rests on: pictures, embeddings, patterns in them, and who carries those."""
