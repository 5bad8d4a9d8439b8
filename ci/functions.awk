# Length of every function of C files in the layout of .clang-format: the braces of a body stand alone in column 0.
# Prints "LINES FILE:LINE NAME", where LINES counts from the first line of the head to the closing brace.
FNR == 1 { head = 0 }
/^[A-Za-z_]/ && !/;[ \t]*$/ && !head {
    head = FNR
    text = $0
    next
}
/^\{[ \t]*$/ && head {
    name = text
    while (match(name, /__attribute__ *\(\(.*\)\)/)) {
        name = substr(name, 1, RSTART - 1) substr(name, RSTART + RLENGTH)
    }
    sub(/[ ]*\(.*/, "", name)
    sub(/.*[ *]/, "", name)
    body = 1
    next
}
/^}/ {
    if (body) {
        print FNR - head + 1, FILENAME ":" head, name
    }
    head = body = 0
    next
}
# A declaration, a preprocessor line or an empty line ends what looked like a head.
!body && (/;[ \t]*$/ || /^#/ || /^[ \t]*$/) { head = 0 }
