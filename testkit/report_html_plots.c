/* The plots of the HTML page, as SVG. Each has its numbers beside it or in titles of its parts. */
#include <string.h>

#include "testkit/report_html.h"

enum {
    WIDTH = 1000, /* units of the plots over the whole page */
    LABEL = 60,
    ROW = 22, /* of one worker */
    SPARK_STEP = 5,
    SPARK_HEIGHT = 20,
    CELL = 14, /* of the kill matrix */
    CELLS_PER_LINE = 40,
    NAME_SHOWN_BYTES = 512,
};

/* ---- the budget ---- */

void html_plot_budget(struct report_writer *w, const struct bnt_test_run *run)
{
    double used = (double)run->wall_ns / 1e9;
    double budget = (double)run->budget_ms / 1e3;
    double grace = (double)bnt_test_grace_ms(run->budget_ms) / 1e3;
    double all = budget + grace > used ? budget + grace : used;
    all = all > 0 ? all : 1;
    double at_budget = budget / all * WIDTH;
    report_printf(w,
                  "<h2>Time: %.1f of %.0f s</h2>\n<svg viewBox=\"0 0 %d 26\" role=\"img\" "
                  "aria-label=\"%.1f s of a budget of %.0f s\">\n<rect class=\"back\" "
                  "width=\"%d\" height=\"20\"/>\n<rect class=\"%s\" width=\"%.1f\" "
                  "height=\"20\"/>\n",
                  used, budget, WIDTH, used, budget, WIDTH,
                  used > budget ? "f-quarantined" : "f-cached", used / all * WIDTH);
    report_printf(w,
                  "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"26\"/>\n</svg>\n"
                  "<p class=\"quiet\">The line is the budget; after it %.0f s of grace.</p>\n",
                  at_budget, at_budget, grace);
}

/* ---- workers ---- */

static void write_bar(struct report_writer *w, const struct bnt_test *t, double per_second)
{
    double start = (double)t->place.start_ms / 1e3;
    double seconds = (double)t->wall_ns / 1e9;
    double width = seconds * per_second;
    report_printf(w,
                  "<rect class=\"f-%s\" x=\"%.2f\" y=\"%u\" width=\"%.2f\" height=\"%d\"><title>",
                  html_class(t->outcome), LABEL + start * per_second, t->place.slot * ROW,
                  width > 0.5 ? width : 0.5, ROW - 4);
    html_text(w, t->suite, NAME_SHOWN_BYTES);
    report_printf(w, "/");
    html_text(w, t->name, NAME_SHOWN_BYTES);
    report_printf(w, ": %s, from %.3f s, %.3f s</title></rect>\n",
                  bnt_test_outcome_name(t->outcome), start, seconds);
}

void html_plot_workers(struct report_writer *w, const struct bnt_test_run *run)
{
    enum { SLOTS_MAX = 256 };
    unsigned n_slots = 0;
    double end = 0.001;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->place.started && t->place.slot < SLOTS_MAX) {
            double stop = (double)t->place.start_ms / 1e3 + (double)t->wall_ns / 1e9;
            n_slots = t->place.slot >= n_slots ? t->place.slot + 1 : n_slots;
            end = stop > end ? stop : end;
        }
    }
    if (n_slots == 0) {
        return;
    }
    report_printf(
        w,
        "<h2>Workers</h2>\n<p class=\"quiet\">A row per worker over %.1f s; each bar is a "
        "test, its name and times are its title.</p>\n<div class=\"wide\"><svg class=\"plot\" "
        "viewBox=\"0 0 %d %u\" "
        "role=\"img\" aria-label=\"tests over time, by worker\">\n",
        end, WIDTH, n_slots * ROW);
    for (unsigned s = 0; s < n_slots; s++) {
        report_printf(w, "<text x=\"0\" y=\"%u\">worker %u</text>\n", s * ROW + 14, s + 1);
    }
    for (size_t i = 0; i < run->n; i++) {
        if (run->at[i].place.started && run->at[i].place.slot < SLOTS_MAX) {
            write_bar(w, &run->at[i], (WIDTH - LABEL) / end);
        }
    }
    report_printf(w, "</svg></div>\n");
}

/* ---- the latest runs of a test ---- */

struct spark {
    struct report_writer *w;
    double longest_s;
    size_t n;
};

static double spark_y(const struct spark *s, double seconds)
{
    double share = s->longest_s > 0 ? seconds / s->longest_s : 0;
    return SPARK_HEIGHT - 3 - share * (SPARK_HEIGHT - 6);
}

static void spark_dot(struct spark *s, enum bnt_test_outcome outcome, double seconds)
{
    report_printf(s->w, "<circle class=\"f-%s\" cx=\"%zu\" cy=\"%.1f\" r=\"2\"/>",
                  html_class(outcome), s->n * SPARK_STEP + 3, spark_y(s, seconds));
    s->n++;
}

void html_plot_past(struct report_writer *w, const struct bnt_test *t)
{
    struct spark s = {w, (double)t->wall_ns / 1e9, 0};
    for (size_t i = 0; i < t->past.n; i++) {
        double seconds = (double)t->past.at[i].wall_ms / 1e3;
        s.longest_s = seconds > s.longest_s ? seconds : s.longest_s;
    }
    if (t->past.n == 0) {
        return;
    }
    size_t width = (t->past.n + 1) * SPARK_STEP + 2;
    report_printf(w,
                  "<svg width=\"%zu\" height=\"%d\" viewBox=\"0 0 %zu %d\"><title>%zu earlier "
                  "runs, up to %.3f s</title><polyline class=\"spark\" points=\"",
                  width, SPARK_HEIGHT, width, SPARK_HEIGHT, t->past.n, s.longest_s);
    for (size_t i = 0; i < t->past.n; i++) {
        report_printf(w, "%zu,%.1f ", i * SPARK_STEP + 3,
                      spark_y(&s, (double)t->past.at[i].wall_ms / 1e3));
    }
    report_printf(w, "%zu,%.1f\"/>", t->past.n * SPARK_STEP + 3,
                  spark_y(&s, (double)t->wall_ns / 1e9));
    for (size_t i = 0; i < t->past.n; i++) {
        spark_dot(&s, t->past.at[i].outcome, (double)t->past.at[i].wall_ms / 1e3);
    }
    spark_dot(&s, t->outcome, (double)t->wall_ns / 1e9);
    report_printf(w, "</svg>");
}

/* ---- the kill matrix ---- */

static size_t count_pairs(const struct kills *kills, const char *suite, const char *verdict)
{
    size_t n = 0;
    for (size_t i = 0; i < kills->n; i++) {
        n += (!suite || strcmp(kills->at[i].suite, suite) == 0) &&
             (!verdict || strcmp(kills->at[i].verdict, verdict) == 0);
    }
    return n;
}

static bool first_of_suite(const struct kills *kills, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (strcmp(kills->at[j].suite, kills->at[i].suite) == 0) {
            return false;
        }
    }
    return true;
}

static void write_cells(struct report_writer *w, const struct kills *kills, const char *suite)
{
    size_t n = count_pairs(kills, suite, NULL);
    size_t columns = n < CELLS_PER_LINE ? n : CELLS_PER_LINE;
    size_t lines = (n + CELLS_PER_LINE - 1) / CELLS_PER_LINE;
    size_t at = 0;
    report_printf(w, "<svg width=\"%zu\" height=\"%zu\" viewBox=\"0 0 %zu %zu\">", columns * CELL,
                  lines * CELL, columns * CELL, lines * CELL);
    for (size_t i = 0; i < kills->n; i++) {
        const struct kill_pair *p = &kills->at[i];
        if (strcmp(p->suite, suite) != 0) {
            continue;
        }
        report_printf(
            w, "<rect class=\"f-%s\" x=\"%zu\" y=\"%zu\" width=\"%d\" height=\"%d\"><title>",
            p->verdict, at % CELLS_PER_LINE * CELL, at / CELLS_PER_LINE * CELL, CELL - 2, CELL - 2);
        html_text(w, p->defect, NAME_SHOWN_BYTES);
        report_printf(w, ": %s", p->verdict);
        html_text(w, strcmp(p->test, "-") == 0 ? "" : " by ", NAME_SHOWN_BYTES);
        html_text(w, strcmp(p->test, "-") == 0 ? "" : p->test, NAME_SHOWN_BYTES);
        report_printf(w, "</title></rect>");
        at++;
    }
    report_printf(w, "</svg>");
}

static void write_survivors(struct report_writer *w, const struct kills *kills, const char *suite)
{
    bool first = true;
    for (size_t i = 0; i < kills->n; i++) {
        const struct kill_pair *p = &kills->at[i];
        if (strcmp(p->suite, suite) == 0 && strcmp(p->verdict, "survived") == 0) {
            report_printf(w, "%s", first ? "" : ", ");
            html_text(w, p->defect, NAME_SHOWN_BYTES);
            first = false;
        }
    }
}

void html_plot_kills(struct report_writer *w, const struct kills *kills)
{
    report_printf(w,
                  "<h2>Planted defects: %zu seen, %zu survived, %zu skipped</h2>\n<div "
                  "class=\"wide\"><table>\n<tr><th>suite</th><th>defects</th><th "
                  "class=\"n\">seen</th><th>survived</th></tr>\n",
                  count_pairs(kills, NULL, "killed"), count_pairs(kills, NULL, "survived"),
                  count_pairs(kills, NULL, "skipped"));
    for (size_t i = 0; i < kills->n; i++) {
        const char *suite = kills->at[i].suite;
        if (!first_of_suite(kills, i)) {
            continue;
        }
        report_printf(w, "<tr><td>");
        html_text(w, suite, NAME_SHOWN_BYTES);
        report_printf(w, "</td><td>");
        write_cells(w, kills, suite);
        report_printf(w, "</td><td class=\"n\">%zu of %zu</td><td class=\"o-failed\">",
                      count_pairs(kills, suite, "killed"), count_pairs(kills, suite, NULL));
        write_survivors(w, kills, suite);
        report_printf(w, "</td></tr>\n");
    }
    report_printf(w, "</table></div>\n");
}
