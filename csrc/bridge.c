/* bridge.c: messages to Python and back, as fast as a compiled extension; see bridge.h.
 *
 * A handler set like any other, written against ws.h alone. It neither keeps nor makes a reference
 * beyond one call. What is rare, or may go wrong, is left to Python: here is the short way only.
 */
#include "bridge.h"

#include <pthread.h>

/* Of all arguments of a call but the first: the slot before them may be written to (PEP 590). */
#define ARGUMENTS_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1))

/* The interpreter's own functions, and a size: no object, which would belong to somebody. */
static ws_python python;
static size_t header_size;

int ws_bridge_setup(const ws_python *functions, size_t size, size_t header)
{
    if (size != sizeof python)
        return WS_EABI;
    python = *functions;
    header_size = header;
    return WS_OK;
}

/* ---- the loop ----------------------------------------------------------------------------- */

void ws_bridge_before_wait(void *user)
{
    ws_bridge *bridge = user;
    bridge->thread = python.PyEval_SaveThread();
}

void ws_bridge_after_wait(void *user)
{
    ws_bridge *bridge = user;
    python.PyEval_RestoreThread(bridge->thread);
}

/* ---- from C to Python --------------------------------------------------------------------- */

static bool is_owner(const ws_bridge *bridge)
{
    return bridge->owner == (unsigned long)pthread_self();
}

/* function(*args), where args[-1] may be written to; NULL with an exception set. */
static void *call(void *function, void *const *args, size_t count)
{
    return python.PyObject_Vectorcall(function, args, count | ARGUMENTS_OFFSET, NULL);
}

/* The exception that is set; then none is. */
static void *take_exception(void)
{
    if (python.PyErr_GetRaisedException)
        return python.PyErr_GetRaisedException();
    void *type, *value, *traceback;
    python.PyErr_Fetch(&type, &value, &traceback);
    python.PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) {
        python.PyException_SetTraceback(value, traceback);
        python.Py_DecRef(traceback);
    }
    python.Py_DecRef(type);
    return value;
}

static bool tell(void *function, void *socket, void *what)
{
    void *args[] = {NULL, socket, what};
    void *result = call(function, args + 1, 2);
    if (result)
        python.Py_DecRef(result);
    return result;
}

/* The handler has raised, or there was no memory for its arguments. A signal handler that raises
 * may keep `failed` from beginning: then there are two exceptions to tell of. */
static void report(const ws_bridge *bridge, void *socket)
{
    void *exception = take_exception();
    if (!tell(bridge->failed, socket, exception)) {
        void *second = take_exception();
        if (!tell(bridge->failed, socket, second))
            python.PyErr_WriteUnraisable(bridge->failed);
        if (!tell(bridge->failed, socket, exception))
            python.PyErr_WriteUnraisable(bridge->failed);
        python.Py_DecRef(second);
    }
    python.Py_DecRef(exception);
}

/* Handlers in one expression (lambdas) return what their last call did; that is no mistake. */
static bool is_of_send(const ws_bridge *bridge, const void *result)
{
    return result == bridge->status[0] || result == bridge->status[1] ||
           result == bridge->status[2] || result == bridge->flag[0] || result == bridge->flag[1];
}

/* A result other than None is a mistake, for which Python has the words. */
static void take_result(const ws_bridge *bridge, void *socket, void *result)
{
    if (result != bridge->none && !is_of_send(bridge, result) &&
        !tell(bridge->returned, socket, result))
        report(bridge, socket);
    python.Py_DecRef(result);
}

static void *new_message(const char *data, size_t length, int opcode)
{
    return opcode == WS_TEXT ? python.PyUnicode_DecodeUTF8(data, (ptrdiff_t)length, NULL)
                             : python.PyBytes_FromStringAndSize(data, (ptrdiff_t)length);
}

static ws_bridge_socket *handle_of(void *socket)
{
    return (void *)((char *)socket + header_size);
}

/* Call the message handler. */
static void hand_over(const ws_bridge_route *route, void *socket, const char *data, size_t length,
                      int opcode)
{
    const ws_bridge *bridge = route->bridge;
    void *message = new_message(data, length, opcode);
    void *kind = opcode == WS_TEXT ? bridge->text : bridge->binary;
    void *args[] = {NULL, socket, message, kind};
    void *result = message ? call(route->message, args + 1, 3) : NULL;
    if (result)
        take_result(bridge, socket, result);
    else
        report(bridge, socket);
    if (message)
        python.Py_DecRef(message);
}

void ws_bridge_on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    const ws_bridge_route *route = user;
    const ws_bridge *bridge = route->bridge;
    void *socket = ws_conn_user(conn);
    if (!bridge->owner) /* the child of a fork has come back from a handler */
        return;
    if (!socket) { /* there was no memory for one */
        ws_conn_end(conn, 1011, "", 0);
        return;
    }
    python.Py_IncRef(socket); /* the handler may close it: then nothing else may hold it */
    /* In the context of the socket. No other handler of it is under way, so that this can enter. */
    void *context = handle_of(socket)->context;
    if (python.PyContext_Enter(context)) {
        report(bridge, socket);
    } else {
        hand_over(route, socket, data, length, opcode);
        if (python.PyContext_Exit(context))
            report(bridge, socket);
    }
    python.Py_DecRef(socket);
}

/* Whatever kept Python from taking note of the end: its object leads nowhere from now on. */
void ws_bridge_on_closed(ws_conn *conn, bool clean, int code, const char *reason, size_t length,
                         void *user)
{
    const ws_bridge_route *route = user;
    void *socket = ws_conn_user(conn);
    if (socket)
        python.Py_IncRef(socket);
    route->closed(conn, clean, code, reason, length, user);
    if (socket) {
        handle_of(socket)->conn = NULL;
        python.Py_DecRef(socket);
    }
}

/* ---- from Python to C --------------------------------------------------------------------- */

static bool is_exactly(void *object, const void *type)
{
    void *own = python.PyObject_Type(object);
    python.Py_DecRef(own); /* the object holds it */
    return own == type;
}

static int as_text(void *message, const char **data, ptrdiff_t *length)
{
    *data = python.PyUnicode_AsUTF8AndSize(message, length);
    if (*data)
        return WS_TEXT;
    python.PyErr_Clear(); /* lone surrogates: Python has better words for them */
    return 0;
}

static int as_binary(void *message, const char **data, ptrdiff_t *length)
{
    char *bytes;
    python.PyBytes_AsStringAndSize(message, &bytes, length);
    *data = bytes;
    return WS_BINARY;
}

/* WS_COMPRESS or 0, as the third argument has it, which *count then leaves out, or the only one
 * with a name, which is the one at args[*count]; -1: not that easy. */
static int take_compress(const ws_bridge *bridge, void *const *args, ptrdiff_t *count, void *names)
{
    const void *flag = bridge->flag[0];
    if (names && (python.PyTuple_Size(names) != 1 ||
                  python.PyTuple_GetItem(names, 0) != bridge->compress))
        return -1;
    if (names)
        flag = args[*count];
    else if (*count == 3)
        flag = args[--*count];
    return flag == bridge->flag[0] ? 0 : flag == bridge->flag[1] ? WS_COMPRESS : -1;
}

/* Bytes and opcode of a str or bytes that is to be sent as what it is; 0: not that easy. */
static int prepare(const ws_bridge *bridge, void *const *args, ptrdiff_t count, const char **data,
                   ptrdiff_t *length)
{
    if (count != 1 && count != 2)
        return 0;
    void *opcode = count == 2 ? args[1] : bridge->none;
    bool fits_any = opcode == bridge->none;
    if ((fits_any || opcode == bridge->text) && is_exactly(args[0], bridge->str_type))
        return as_text(args[0], data, length);
    if ((fits_any || opcode == bridge->binary) && is_exactly(args[0], bridge->bytes_type))
        return as_binary(args[0], data, length);
    return 0;
}

/* self.<ws_bridge.send>(*args, **names). */
static void *send_in_python(const ws_bridge *bridge, void *self, void *const *args,
                            ptrdiff_t count, void *names)
{
    enum { MOST = 8 }; /* more than the method takes */
    void *all[1 + MOST] = {self, self, self, self, self, self, self, self, self};
    ptrdiff_t total = count + (names ? python.PyTuple_Size(names) : 0);
    if (total > MOST) { /* Python is to say that it is too many */
        count = MOST;
        names = NULL;
    } else {
        for (ptrdiff_t i = 0; i < total; i++)
            all[1 + i] = args[i];
    }
    return python.PyObject_VectorcallMethod(bridge->send, all, (size_t)count + 1, names);
}

void *ws_bridge_send(void *self, void *const *args, ptrdiff_t count, void *names)
{
    const ws_bridge_socket *socket = handle_of(self);
    const ws_bridge *bridge = socket->bridge;
    if (!bridge) {
        python.PyErr_BadArgument();
        return NULL;
    }
    const char *data;
    ptrdiff_t length, plain = count;
    int compress = take_compress(bridge, args, &plain, names);
    int opcode = compress < 0 ? 0 : prepare(bridge, args, plain, &data, &length);
    if (!opcode || !socket->conn || !is_owner(bridge))
        return send_in_python(bridge, self, args, count, names);
    int status = ws_conn_send(socket->conn, data, (size_t)length, opcode | compress);
    if (status < 0) /* nothing was sent: Python tries again, and raises */
        return send_in_python(bridge, self, args, count, names);
    python.Py_IncRef(bridge->status[status]);
    return bridge->status[status];
}
