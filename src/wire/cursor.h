/* The one step of a Cursor (wire/message.h) that everything else is made of. For the files that read messages. */
#pragma once

#include "wire/message.h"

/* Takes `size` bytes, to `destination` unless that is NULL. False, and nothing taken, when fewer are left: a cursor
 * can't run past its end. */
bool cursor_read(Cursor *cursor, void *destination, size_t size);
