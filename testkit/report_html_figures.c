/* The section "Performance" of the HTML page: every figure that a test reported, its value now, the
 * median over the runs of this machine with its interval, and whether it made a step. */
#include <math.h>

#include "testkit/perf_verdict.h"
#include "testkit/report_html.h"

enum { PLOT_WIDTH = 240, PLOT_HEIGHT = 44, PLOT_EDGE = 4, NAME_SHOWN_BYTES = 512 };

/* The values of a figure, the present one last. */
struct series {
    double at[BNT_TEST_PAST + 1];
    size_t n;
    double least, most;
};

static bool take_series(const struct bnt_test_metric *m, struct series *s)
{
    *s = (struct series){.least = m->value, .most = m->value};
    for (size_t i = 0; i <= m->n_past; i++) {
        double v = i < m->n_past ? m->past[i] : m->value;
        if (!isfinite(v)) {
            return false;
        }
        s->at[s->n++] = v;
        s->least = v < s->least ? v : s->least;
        s->most = v > s->most ? v : s->most;
    }
    return true;
}

static double plot_x(const struct series *s, size_t i)
{
    double step = s->n > 1 ? (PLOT_WIDTH - 2.0 * PLOT_EDGE) / (double)(s->n - 1) : 0;
    return PLOT_EDGE + step * (double)i;
}

static double plot_y(const struct series *s, double v)
{
    double range = s->most - s->least;
    double share = range > 0 ? (v - s->least) / range : 0.5;
    return PLOT_HEIGHT - PLOT_EDGE - share * (PLOT_HEIGHT - 2.0 * PLOT_EDGE);
}

static void write_plot(struct report_writer *w, const struct series *s,
                       const struct perf_history *h)
{
    double top = plot_y(s, h->high), bottom = plot_y(s, h->low);
    report_printf(w,
                  "<svg width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\"><title>%zu "
                  "runs from %.6g to %.6g, the last one %.6g</title><rect class=\"band\" x=\"0\" "
                  "y=\"%.1f\" width=\"%d\" height=\"%.1f\"/><polyline class=\"spark\" points=\"",
                  PLOT_WIDTH, PLOT_HEIGHT, PLOT_WIDTH, PLOT_HEIGHT, s->n, s->least, s->most,
                  s->at[s->n - 1], top, PLOT_WIDTH, bottom - top > 1 ? bottom - top : 1);
    for (size_t i = 0; i < s->n; i++) {
        report_printf(w, "%.1f,%.1f ", plot_x(s, i), plot_y(s, s->at[i]));
    }
    report_printf(w, "\"/>");
    for (size_t i = 0; i < s->n; i++) {
        bool now = i + 1 == s->n;
        report_printf(w, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>",
                      now ? "now" : "then", plot_x(s, i), plot_y(s, s->at[i]), now ? "3.5" : "1.5");
    }
    report_printf(w, "</svg>");
}

static void write_history(struct report_writer *w, const struct bnt_test_metric *m)
{
    struct series s;
    struct perf_history h;
    struct bnt_err ignored = {0};
    if (m->n_past == 0 || !take_series(m, &s) ||
        perf_history_of(s.at, s.n, &h, &ignored) != BNT_OK) {
        report_printf(w, "<td class=\"n quiet\">-</td><td></td><td class=\"quiet\">first run</td>");
        return;
    }
    report_printf(w, "<td class=\"n\">%.5g (%.5g to %.5g)</td><td>", h.median, h.low, h.high);
    write_plot(w, &s, &h);
    if (m->worse) {
        report_printf(w, "</td><td class=\"worse\">slower %+.1f %%</td>", 100 * m->change);
    } else if (h.trend == PERF_TREND_FEW) {
        report_printf(w, "</td><td class=\"quiet\">%zu runs</td>", s.n);
    } else {
        report_printf(w, "</td><td class=\"%s\">%s %+.1f %%</td>",
                      h.trend == PERF_TREND_STEADY ? "quiet" : "step", perf_trend_name(h.trend),
                      100 * h.change);
    }
}

static void write_figures_of(struct report_writer *w, const struct bnt_test *t)
{
    for (size_t i = 0; i < t->n_metrics; i++) {
        const struct bnt_test_metric *m = &t->metrics[i];
        report_printf(w, "<tr><td>");
        html_text(w, m->name, NAME_SHOWN_BYTES);
        report_printf(w, "<br/><span class=\"quiet\">");
        html_text(w, t->suite, NAME_SHOWN_BYTES);
        report_printf(w, "/");
        html_text(w, t->name, NAME_SHOWN_BYTES);
        report_printf(w, "</span></td><td class=\"n\">%.5g ", m->value);
        html_text(w, m->unit, NAME_SHOWN_BYTES);
        report_printf(w, "</td>");
        write_history(w, m);
        report_printf(w, "</tr>\n");
    }
}

void html_plot_figures(struct report_writer *w, const struct bnt_test_run *run)
{
    bool any = false;
    for (size_t i = 0; i < run->n; i++) {
        if (run->at[i].n_metrics == 0) {
            continue;
        }
        report_printf(w, "%s",
                      any ? ""
                          : "<h2>Performance</h2>\n<p class=\"quiet\">Figures that tests reported. "
                            "Median and its 95 % interval (the band) are over the runs of this "
                            "machine with this model; a step compares the latest four with those "
                            "before. \"slower\" is the verdict of --slower, for which the run "
                            "fails.</p>\n<div class=\"wide\"><table>\n<tr><th>figure</th><th "
                            "class=\"n\">now</th><th class=\"n\">median</th><th>runs</th><th>"
                            "step</th></tr>\n");
        any = true;
        write_figures_of(w, &run->at[i]);
    }
    report_printf(w, "%s", any ? "</table></div>\n" : "");
}
