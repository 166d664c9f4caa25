#include "axon/share.h"

#include <math.h>

static const double saved_ns = 100e6; /* the time in which credit may be saved up */
static const double owed_ns = 1e9;    /* and debt paid off */

void share_init(Share *share, double fraction, int cores, uint64_t now)
{
    double rate = fraction > 0 && fraction < 1 ? fraction * cores : 0;
    *share = (Share){.rate = rate, .most = rate * saved_ns, .credit = rate * saved_ns, .last = now};
}

bool share_limited(const Share *share)
{
    return share->rate > 0;
}

/* Threads read the clock before they have the lock, so `now` may lie a little before `last`. */
static void fill(Share *share, uint64_t now)
{
    if (now <= share->last) return;
    share->credit = fmin(share->most, share->credit + share->rate * (double)(now - share->last));
    share->last = now;
}

void share_charge(Share *share, uint64_t now, uint64_t cpu_ns)
{
    if (!share_limited(share)) return;
    fill(share, now);
    share->credit = fmax(share->credit - (double)cpu_ns, -share->rate * owed_ns);
}

uint64_t share_wait(Share *share, uint64_t now)
{
    if (!share_limited(share)) return 0;
    fill(share, now);
    return share->credit >= 0 ? 0 : (uint64_t)ceil(-share->credit / share->rate);
}
