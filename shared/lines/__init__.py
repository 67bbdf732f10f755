"""Reader for the text lines of stored blobs, used by the proof of a copy and by the tie-out.

`text_reader` turns stored bytes into text, `json_lines` counts and checks lines, `line_splitter`
returns them one by one, and `blob_lines` does so for a whole blob. `members` reads single members
of a line, and `newest_date` the newest date of one member. All of them are synchronous, take pieces
of any size, and use bounded memory.
"""
