/* What the two halves of the HTML page share. */
#ifndef TESTKIT_REPORT_HTML_H
#define TESTKIT_REPORT_HTML_H

#include "testkit/kills.h"
#include "testkit/report_writer.h"

/* Text of an element or of an attribute in double quotes, cut after max_bytes; NULL is "". */
void html_text(struct report_writer *w, const char *text, size_t max_bytes);
/* The word for an outcome in names of classes. */
const char *html_class(enum bnt_test_outcome outcome);

void html_plot_budget(struct report_writer *w, const struct bnt_test_run *run);
/* Who ran what when; nothing when no test was started. */
void html_plot_workers(struct report_writer *w, const struct bnt_test_run *run);
/* Times of the latest runs of a test and of this one; nothing without any. */
void html_plot_past(struct report_writer *w, const struct bnt_test *t);
/* Figures that tests reported, with their history; nothing without any. */
void html_plot_figures(struct report_writer *w, const struct bnt_test_run *run);
void html_plot_kills(struct report_writer *w, const struct kills *kills);

#endif
