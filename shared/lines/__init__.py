"""Reader for the text lines of stored blobs, used by the proof of a copy and by the tie-out.

`text_reader` turns stored bytes into text, `json_lines` counts and checks lines, and
`line_splitter` returns them one by one. All of them are synchronous, take pieces of any size, and
use bounded memory.
"""
