# C source without comments and without the inside of strings and character constants, line for line.
# Prints "FILE:LINE:text", so that a later grep says where.
FNR == 1 { in_comment = 0 }
{
    out = ""
    quote = ""
    rest = $0
    while (rest != "") {
        if (in_comment) {
            at = index(rest, "*/")
            rest = at ? substr(rest, at + 2) : ""
            in_comment = !at
        } else if (quote != "") {
            c = substr(rest, 1, 1)
            rest = substr(rest, c == "\\" ? 3 : 2)
            if (c == quote) {
                out = out c
                quote = ""
            }
        } else if (match(rest, /["']|\/\*|\/\//)) {
            found = substr(rest, RSTART, RLENGTH)
            out = out substr(rest, 1, RSTART - 1)
            rest = substr(rest, RSTART + RLENGTH)
            if (found == "/*") {
                in_comment = 1
                out = out " "
            } else if (found == "//") {
                rest = ""
            } else {
                quote = found
                out = out found
            }
        } else {
            out = out rest
            rest = ""
        }
    }
    print FILENAME ":" FNR ":" out
}
