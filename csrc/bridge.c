/* SPDX-License-Identifier: MIT */
/*
 * bridge.c: passes messages to Python handlers, and back, as fast as a compiled extension does.
 * Handlers like any others, which know ws.h alone. No call leaves a reference behind. Only the
 * common cases are handled here; what is rare, or can go wrong, is left to Python.
 */
#include "bridge.h"

#include <string.h>

#if defined(WS_NO_RESOLVER) || defined(WS_NO_HTTP) || defined(WS_NO_HTTP_FILES) ||                 \
    defined(WS_NO_CLUSTER) || defined(WS_NO_TLS) || defined(WS_NO_PROXIES) ||                      \
    defined(WS_NO_ADDRESS_LIMITS) || defined(WS_NO_TOPICS)
#error "bridge*.c is for Python, which needs all parts of the library: leave bridge*.c out"
#endif

/* PY_VECTORCALL_ARGUMENTS_OFFSET (PEP 590): the called function may change the slot in front of the
 * arguments. */
#define ARGUMENTS_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1))

ws_python ws__python;

size_t ws__bridge_header_size;

__attribute__((cold)) int ws_bridge_setup(const ws_python *functions, size_t size, size_t header)
{
    if (size != sizeof ws__python)
        return WS_EABI;
    ws__python = *functions;
    ws__bridge_header_size = header;
    return WS_OK;
}

/* ---- the loop ----------------------------------------------------------------------------- */

void ws_bridge_before_wait(void *user)
{
    ws_bridge *bridge = user;
    bridge->thread = ws__python.PyEval_SaveThread();
}

void ws_bridge_after_wait(void *user)
{
    ws_bridge *bridge = user;
    ws__python.PyEval_RestoreThread(bridge->thread);
}

/* ---- from C to Python --------------------------------------------------------------------- */

void *ws__bridge_call(void *function, void *const *args, size_t count)
{
    return ws__python.PyObject_Vectorcall(function, args, count | ARGUMENTS_OFFSET, NULL);
}

__attribute__((cold)) void *ws__bridge_take_exception(void)
{
    if (ws__python.PyErr_GetRaisedException)
        return ws__python.PyErr_GetRaisedException();
    void *type, *value, *traceback;
    ws__python.PyErr_Fetch(&type, &value, &traceback);
    ws__python.PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) {
        ws__python.PyException_SetTraceback(value, traceback);
        ws__python.Py_DecRef(traceback);
    }
    ws__python.Py_DecRef(type);
    return value;
}

bool ws__bridge_notify(void *function, void *object, void *what)
{
    void *args[] = {NULL, object, what};
    void *result = ws__bridge_call(function, args + 1, 2);
    if (result)
        ws__python.Py_DecRef(result);
    return result;
}

/* Reports the exception that is set: the handler raised it, or there was no memory for its
 * arguments. A signal handler that raises can keep `failed` from running: then two exceptions must
 * be reported. */
__attribute__((cold)) static void report(const ws_bridge *bridge, void *socket)
{
    void *exception = ws__bridge_take_exception();
    if (!ws__bridge_notify(bridge->failed, socket, exception)) {
        void *second = ws__bridge_take_exception();
        if (!ws__bridge_notify(bridge->failed, socket, second))
            ws__python.PyErr_WriteUnraisable(bridge->failed);
        if (!ws__bridge_notify(bridge->failed, socket, exception))
            ws__python.PyErr_WriteUnraisable(bridge->failed);
        ws__python.Py_DecRef(second);
    }
    ws__python.Py_DecRef(exception);
}

/* Returns true for a result of send() or the like. A handler that is a lambda returns it, which is
 * not a mistake. */
static bool is_of_send(const ws_bridge *bridge, const void *result)
{
    return result == bridge->status[0] || result == bridge->status[1] ||
           result == bridge->status[2] || result == bridge->flag[0] || result == bridge->flag[1];
}

/* Releases the result of a handler. A result other than None is a mistake, which Python reports. */
static void take_result(const ws_bridge *bridge, void *socket, void *result)
{
    if (result != bridge->none && !is_of_send(bridge, result) &&
        !ws__bridge_notify(bridge->returned, socket, result))
        report(bridge, socket);
    ws__python.Py_DecRef(result);
}

static void *new_message(const char *data, size_t length, int opcode)
{
    return opcode == WS_TEXT ? ws__python.PyUnicode_DecodeUTF8(data, (ptrdiff_t)length, NULL)
                             : ws__python.PyBytes_FromStringAndSize(data, (ptrdiff_t)length);
}

static ws_bridge_socket *handle_of(void *socket)
{
    return ws__bridge_part(socket);
}

/* What PyIter_Send returns. */
enum { RAISED = -1, RETURNED = 0, AWAITS = 1 };

/* Makes the task of a stepper the current one, or, with leave_task, no task. Returns false with an
 * exception set if that is not possible: inside another task. */
static bool switch_task(const ws_bridge *bridge, void *function, const ws_bridge_stepper *stepper)
{
    void *args[] = {NULL, bridge->loop, stepper->task};
    void *result = ws__bridge_call(function, args + 1, 2);
    if (result)
        ws__python.Py_DecRef(result);
    return result;
}

/* Runs a step of a coroutine as the current task, which is busy, and ends to be the current one.
 * Sets *result to what the coroutine has returned, awaits, or has raised. */
static int run_step(const ws_bridge *bridge, ws_bridge_stepper *stepper, void *coroutine,
                    void *value, void **result)
{
    int sent = coroutine ? ws__python.PyIter_Send(coroutine, value, result) : RAISED;
    stepper->busy = false;
    if (sent == RAISED)
        *result = ws__bridge_take_exception();
    if (!switch_task(bridge, bridge->leave_task, stepper))
        ws__python.PyErr_WriteUnraisable(bridge->leave_task);
    return sent;
}

/* Leaves to Python what is not the common case. */
static void pass_outcome(const ws_bridge *bridge, void *socket, void *coroutine, int sent,
                         void *result)
{
    void *args[] = {NULL, socket, coroutine ? coroutine : bridge->none, result};
    void *done = ws__bridge_call(bridge->outcome[sent + 1], args + 1, 3);
    if (done)
        ws__python.Py_DecRef(done);
    else
        report(bridge, socket);
    ws__python.Py_DecRef(result);
}

/* The first word of an object is, or begins with, the count of its references (Python makes sure of
 * that). A task that the coroutine has kept must not serve another one. */
static uintptr_t references(const void *task)
{
    uintptr_t count;
    memcpy(&count, task, sizeof count);
    return count;
}

static bool has_weak_references(const ws_bridge *bridge, const void *task)
{
    void *list;
    memcpy(&list, (const char *)task + bridge->weak_references, sizeof list);
    return list;
}

/* Begins a coroutine handler as the task of bridge->spare, which is the current one, and had that
 * many references before. Most handlers have ended after their first step. */
static void begin_handler(const ws_bridge_route *route, void *socket, void *const *args,
                          uintptr_t before)
{
    const ws_bridge *bridge = route->bridge;
    ws_bridge_stepper *spare = bridge->spare;
    ws_bridge_socket *handle = handle_of(socket);
    unsigned long queued = bridge->queued;
    handle->stepper = WS_BRIDGE_BUSY;
    spare->busy = true; /* a function that returns a coroutine may cancel the task, too */
    void *coroutine = ws__bridge_call(route->coroutine, args, 3), *result;
    int sent = run_step(bridge, spare, coroutine, bridge->none, &result);
    if (references(spare->task) != before || has_weak_references(bridge, spare->task))
        spare->changed = true;
    if (sent == RETURNED && !spare->changed && queued == bridge->queued && handle->conn) {
        handle->stepper = NULL;
        take_result(bridge, socket, result);
    } else {
        pass_outcome(bridge, socket, coroutine, sent, result);
    }
    if (coroutine)
        ws__python.Py_DecRef(coroutine);
}

/* Gives a message to a session that waits for it, as its task, which is the current one. Most
 * sessions then wait for the next message. */
static void resume_session(const ws_bridge *bridge, void *socket, ws_bridge_stepper *stepper,
                           void *message)
{
    void *coroutine = stepper->coroutine, *result;
    ws__python.Py_IncRef(coroutine);
    stepper->coroutine = NULL;
    stepper->busy = true;
    int sent = run_step(bridge, stepper, coroutine, message, &result);
    if (sent == AWAITS && result == stepper->parking && !stepper->changed) {
        stepper->coroutine = coroutine;
        ws__python.Py_DecRef(result);
    } else {
        pass_outcome(bridge, socket, coroutine, sent, result);
    }
    ws__python.Py_DecRef(coroutine);
}

/* Returns the task that C runs the next step of a coroutine as; NULL if Python must handle the
 * message. */
static ws_bridge_stepper *find_stepper(const ws_bridge_route *route, void *socket)
{
    ws_bridge_stepper *stepper = handle_of(socket)->stepper;
    if (!stepper)
        return route->coroutine ? route->bridge->spare : NULL;
    return stepper != WS_BRIDGE_BUSY && stepper->coroutine ? stepper : NULL;
}

/* Calls the message handler, in the current context. */
static void call_handler(const ws_bridge_route *route, void *socket, const char *data,
                         size_t length, int opcode)
{
    const ws_bridge *bridge = route->bridge;
    void *message = new_message(data, length, opcode);
    void *kind = opcode == WS_TEXT ? bridge->text : bridge->binary;
    void *args[] = {NULL, socket, message, kind};
    ws_bridge_stepper *stepper = message ? find_stepper(route, socket) : NULL;
    uintptr_t before = stepper ? references(stepper->task) : 0;
    if (stepper && !switch_task(bridge, bridge->enter_task, stepper)) {
        ws__python.PyErr_Clear(); /* the method in Python can leave the other task */
        stepper = NULL;
    }
    if (!stepper) {
        void *result = message ? ws__bridge_call(route->message, args + 1, 3) : NULL;
        if (result)
            take_result(bridge, socket, result);
        else
            report(bridge, socket);
    } else if (stepper->coroutine) {
        resume_session(bridge, socket, stepper, message);
    } else {
        begin_handler(route, socket, args + 1, before);
    }
    if (message)
        ws__python.Py_DecRef(message);
}

/* ---- the life of a WebSocket object -------------------------------------------------------- */

/* Calls function(*args), and reports an exception that comes out of it: a signal handler raised it,
 * or there was no memory. The first argument is borrowed. The others are new references, which are
 * dropped here; one of them is NULL if there was no memory. Returns a borrowed reference to a
 * result of a type like bool, or NULL after an exception. */
__attribute__((cold)) static const void *call_with(void *function, void **args, size_t count)
{
    bool complete = true;
    for (size_t i = 1; i < count; i++)
        complete = complete && args[i];
    void *result = complete ? ws__bridge_call(function, args, count) : NULL;
    if (result)
        ws__python.Py_DecRef(result);
    else
        ws__python.PyErr_WriteUnraisable(function);
    for (size_t i = 1; i < count; i++)
        if (args[i])
            ws__python.Py_DecRef(args[i]);
    return result;
}

/* The target of a request, which is ASCII; None if it is in the absolute form (RFC 9112 section
 * 3.2.2), which is for Python to take apart. */
static void *new_target(const ws_bridge *bridge, const ws_request *request)
{
    size_t length;
    const char *target = ws_request_target(request, &length);
    if (!length || target[0] != '/')
        return ws__bridge_reference(bridge->none);
    return ws__python.PyUnicode_DecodeUTF8(target, (ptrdiff_t)length, NULL);
}

/* Makes the object of a connection, and puts it into the table, which then holds the only
 * reference. Returns NULL with an exception set if there is no memory. */
static void *new_object(ws_bridge *bridge, ws_conn *conn)
{
    void *key = ws__python.PyLong_FromVoidPtr(conn);
    void *socket = key ? ws__python.PyType_GenericAlloc(bridge->socket_type, 0) : NULL;
    if (socket) {
        ws_bridge_socket *handle = handle_of(socket); /* the rest of it is 0 */
        handle->conn = conn;
        handle->bridge = bridge;
        handle->key = key;
        handle->id = ws_conn_get_id(conn);
        bool failed = ws__python.PyDict_SetItem(bridge->sockets, key, socket);
        ws__python.Py_DecRef(socket);
        socket = failed ? NULL : socket;
    }
    if (key)
        ws__python.Py_DecRef(key);
    return socket;
}

/* Removes the object from the table, and the address of the connection from the object. The caller
 * has a reference to it. */
static void forget(const ws_bridge *bridge, void *socket)
{
    ws_bridge_socket *handle = handle_of(socket);
    void *key = handle->key;
    handle->conn = NULL;
    handle->key = NULL;
    if (key && ws__python.PyDict_DelItem(bridge->sockets, key))
        ws__python.PyErr_Clear();
}

__attribute__((cold)) void ws_bridge_on_open(ws_conn *conn, void *user)
{
    const ws_bridge_route *route = user;
    ws_bridge *bridge = route->bridge;
    void *socket = new_object(bridge, conn);
    if (!socket) { /* the connection ends with its first message */
        ws__python.PyErr_WriteUnraisable(bridge->opened);
        return;
    }
    ws_conn_set_user(conn, socket);
    ws__python.Py_IncRef(socket); /* the handler may close it */
    ws_request *request = ws_conn_request(conn);
    void *args[] = {NULL, socket, ws__bridge_reference(route->route),
                    ws__python.PyLong_FromVoidPtr(request), new_target(bridge, request)};
    if (!call_with(bridge->opened, args + 1, 4) && !handle_of(socket)->context) {
        ws_conn_set_user(conn, NULL);
        forget(bridge, socket);
        handle_of(socket)->bridge = NULL; /* the object does not keep it alive */
        ws_conn_end(conn, 1011, "", 0);
    }
    ws__python.Py_DecRef(socket);
}

void ws_bridge_on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    const ws_bridge_route *route = user;
    const ws_bridge *bridge = route->bridge;
    void *socket = ws_conn_user(conn);
    if (!bridge->owner) /* a handler returned in a forked child */
        return;
    if (!socket) { /* there was no memory for the object */
        ws_conn_end(conn, 1011, "", 0);
        return;
    }
    ws__python.Py_IncRef(socket); /* the handler may close it, which drops the other references */
    /* No other handler of this socket is running, so its context can be entered. */
    void *context = handle_of(socket)->context;
    if (ws__python.PyContext_Enter(context)) {
        report(bridge, socket);
    } else {
        call_handler(route, socket, data, length, opcode);
        if (ws__python.PyContext_Exit(context))
            report(bridge, socket);
    }
    ws__python.Py_DecRef(socket);
}

__attribute__((cold)) void
ws_bridge_on_close(ws_conn *conn, int code, const char *reason, size_t length, void *user)
{
    const ws_bridge *bridge = ((const ws_bridge_route *)user)->bridge;
    void *socket = ws_conn_user(conn);
    if (!socket)
        return;
    ws__python.Py_IncRef(socket);
    ws_bridge_socket *handle = handle_of(socket);
    handle->conn = NULL; /* first: what follows may be interrupted */
    handle->latency = ws_conn_latency(conn);
    uint8_t address[16];
    ptrdiff_t address_length = (ptrdiff_t)ws_conn_remote_address_bytes(conn, address);
    void *args[] = {NULL, socket, ws__python.PyLong_FromUnsignedLong((unsigned long)code),
                    ws__python.PyUnicode_DecodeUTF8(reason, (ptrdiff_t)length, "replace"),
                    ws__bridge_reference(bridge->flag[ws_conn_closed_by_peer(conn)]),
                    ws__python.PyBytes_FromStringAndSize((char *)address, address_length),
                    ws__python.PyLong_FromUnsignedLong(ws_conn_remote_port(conn)),
                    ws__bridge_reference(bridge->flag[ws_conn_scheme(conn)[2] == 's'])};
    handle->settled = call_with(bridge->closing, args + 1, 7) == bridge->flag[1];
    ws__python.Py_DecRef(socket);
}

/* Whatever happens in Python: the object must not lead to the connection from now on. */
__attribute__((cold)) void
ws_bridge_on_closed(ws_conn *conn, bool clean, int code, const char *reason, size_t length,
                    void *user)
{
    const ws_bridge *bridge = ((const ws_bridge_route *)user)->bridge;
    void *socket = ws_conn_user(conn);
    if (!socket)
        return;
    ws__python.Py_IncRef(socket);
    forget(bridge, socket);
    if (!clean || !handle_of(socket)->settled) {
        void *args[] = {NULL, socket, ws__bridge_reference(bridge->flag[clean]),
                        ws__python.PyLong_FromUnsignedLong((unsigned long)code),
                        ws__python.PyUnicode_DecodeUTF8(reason, (ptrdiff_t)length, "replace")};
        call_with(bridge->closed, args + 1, 4);
    }
    ws__python.Py_DecRef(socket);
}

/* ---- from Python to C --------------------------------------------------------------------- */

static const void *type_of(void *object)
{
    void *type = ws__python.PyObject_Type(object);
    ws__python.Py_DecRef(type); /* the object itself holds a reference to its type */
    return type;
}

static bool is_exactly(void *object, const void *type)
{
    return type_of(object) == type;
}

static int as_text(void *message, const char **data, ptrdiff_t *length)
{
    *data = ws__python.PyUnicode_AsUTF8AndSize(message, length);
    if (*data)
        return WS_TEXT;
    ws__python.PyErr_Clear(); /* lone surrogates: the method in Python reports them better */
    return 0;
}

static int as_binary(void *message, const char **data, ptrdiff_t *length)
{
    char *bytes;
    ws__python.PyBytes_AsStringAndSize(message, &bytes, length);
    *data = bytes;
    return WS_BINARY;
}

/* Puts the arguments that have names into `values`, as sort_arguments does. */
__attribute__((noinline)) static bool
sort_named(const ws_bridge *bridge, void *const *args, ptrdiff_t count, void *names,
           ptrdiff_t required, ptrdiff_t optional, void **values)
{
    ptrdiff_t named = ws__python.PyTuple_Size(names);
    for (ptrdiff_t i = 0; i < named; i++) {
        const void *name = ws__python.PyTuple_GetItem(names, i);
        ptrdiff_t which = 0;
        while (which < optional && bridge->optional[which] != name)
            which++;
        if (which == optional || required + which < count)
            return false;
        values[required + which] = args[count + i];
    }
    return true;
}

/* Puts the arguments of a call in order: `required` ones, then `optional` ones, which may have the
 * names of ws_bridge.optional. Those that are left out stay as they are in `values`. Returns false
 * if Python must handle the call. */
static inline bool sort_arguments(const ws_bridge *bridge, void *const *args, ptrdiff_t count,
                                  void *names, ptrdiff_t required, ptrdiff_t optional,
                                  void **values)
{
    if (count < required || count > required + optional)
        return false;
    for (ptrdiff_t i = 0; i < count; i++)
        values[i] = args[i];
    return !names || sort_named(bridge, args, count, names, required, optional, values);
}

/* Returns whether `object` is a bool, and *flag: whether it is True. */
static inline bool as_flag(const ws_bridge *bridge, const void *object, bool *flag)
{
    *flag = object == bridge->flag[1];
    return *flag || object == bridge->flag[0];
}

int ws__bridge_prepare(const ws_bridge *bridge, void *const values[3], const char **data,
                       ptrdiff_t *length)
{
    void *message = values[0];
    const void *type = type_of(message), *opcode = values[1];
    bool fits_any = opcode == bridge->none, compressed;
    int prepared = 0;
    if (!as_flag(bridge, values[2], &compressed))
        return 0;
    if (type == bridge->str_type && (fits_any || opcode == bridge->text))
        prepared = as_text(message, data, length);
    else if (type == bridge->bytes_type && (fits_any || opcode == bridge->binary))
        prepared = as_binary(message, data, length);
    return prepared && compressed ? prepared | WS_COMPRESS : prepared;
}

__attribute__((cold)) void *
ws__bridge_call_method(void *method, void *self, void *const *args, ptrdiff_t count,
                             void *names)
{
    enum { MOST = 8 }; /* more arguments than any method here takes */
    void *all[1 + MOST] = {self, self, self, self, self, self, self, self, self};
    ptrdiff_t total = count + (names ? ws__python.PyTuple_Size(names) : 0);
    if (total > MOST) { /* Python reports that these are too many */
        count = MOST;
        names = NULL;
    } else {
        for (ptrdiff_t i = 0; i < total; i++)
            all[1 + i] = args[i];
    }
    return ws__python.PyObject_VectorcallMethod(method, all, (size_t)count + 1, names);
}

void *ws_bridge_send(void *self, void *const *args, ptrdiff_t count, void *names)
{
    const ws_bridge_socket *socket = handle_of(self);
    const ws_bridge *bridge = socket->bridge;
    if (!bridge) {
        ws__python.PyErr_BadArgument();
        return NULL;
    }
    const char *data;
    ptrdiff_t length;
    void *values[] = {NULL, bridge->none, bridge->flag[0]}; /* message, opcode, compress */
    int opcode = sort_arguments(bridge, args, count, names, 1, 2, values)
                     ? ws__bridge_prepare(bridge, values, &data, &length)
                     : 0;
    if (!opcode || !socket->conn || !ws__bridge_owns(bridge))
        return ws__bridge_call_method(bridge->send, self, args, count, names);
    int status = ws_conn_send(socket->conn, data, (size_t)length, opcode);
    if (status < 0) /* nothing was sent; the method in Python tries again, and raises */
        return ws__bridge_call_method(bridge->send, self, args, count, names);
    return ws__bridge_reference(bridge->status[status]);
}

/* The method publish of a WebSocket, or of an App if `conn` is NULL, which takes one argument
 * less. */
__attribute__((cold)) static void *
publish_with(const ws_bridge *bridge, ws_conn *conn, void *self, void *const *args,
             ptrdiff_t count, void *names)
{
    const char *topic, *data;
    ptrdiff_t topic_length, length;
    bool exclude_self;
    /* topic, message, opcode, compress, exclude_self */
    void *values[] = {NULL, NULL, bridge->none, bridge->flag[0], bridge->flag[0]};
    if (!ws__bridge_owns(bridge) ||
        !sort_arguments(bridge, args, count, names, 2, conn ? 3 : 2, values) ||
        !is_exactly(values[0], bridge->str_type) || !as_text(values[0], &topic, &topic_length) ||
        !as_flag(bridge, values[4], &exclude_self))
        return ws__bridge_call_method(bridge->publish, self, args, count, names);
    int opcode = ws__bridge_prepare(bridge, values + 1, &data, &length);
    if (!opcode)
        return ws__bridge_call_method(bridge->publish, self, args, count, names);
    int result = conn ? ws_conn_publish(conn, topic, (size_t)topic_length, data, (size_t)length,
                                        opcode, exclude_self)
                      : ws_server_publish(bridge->server, topic, (size_t)topic_length, data,
                                          (size_t)length, opcode);
    if (result < 0) /* no one got it; the method in Python tries again, and raises */
        return ws__bridge_call_method(bridge->publish, self, args, count, names);
    return ws__bridge_reference(bridge->flag[result > 0]);
}

void *ws_bridge_publish(void *self, void *const *args, ptrdiff_t count, void *names)
{
    const ws_bridge_socket *socket = handle_of(self);
    const ws_bridge *bridge = socket->bridge;
    if (!bridge) {
        ws__python.PyErr_BadArgument();
        return NULL;
    }
    if (!socket->conn)
        return ws__bridge_call_method(bridge->publish, self, args, count, names);
    return publish_with(bridge, socket->conn, self, args, count, names);
}

void *ws_bridge_publish_app(void *self, void *const *args, ptrdiff_t count, void *names)
{
    void *address = ws__python.PyObject_GetAttrString(self, "_bridge_address");
    if (!address)
        return NULL;
    const ws_bridge *bridge = ws__python.PyLong_AsVoidPtr(address);
    ws__python.Py_DecRef(address);
    if (!bridge)
        return NULL;
    if (!bridge->server)
        return ws__bridge_call_method(bridge->publish, self, args, count, names);
    return publish_with(bridge, NULL, self, args, count, names);
}
