/* Code that is to end its process: it runs in one of its own. */
#pragma once

/* Runs act(argument) in a child, which leaves with 0 when it returns. What it wrote on stderr (free with free()), and
 * in *status how it ended, as waitpid tells it; aborts when there is no child to be had. */
char *child_run(void (*act)(void *argument), void *argument, int *status);
