/* SPDX-License-Identifier: MIT */
/*
 * bridge.h: calls Python handlers from C, and sends from Python, without ctypes or Python.h.
 *
 * Only the Python package uses this. It calls ws_bridge_setup through ctypes, and owns all objects
 * and structs below, which must stay valid for as long as the server lives. PyObject * and
 * PyThreadState * are void * here, since nothing but their address is known. All functions are
 * called with the GIL held, except ws_bridge_after_wait, which takes it back.
 * C programs leave bridge.c out.
 */
#ifndef WS_BRIDGE_H
#define WS_BRIDGE_H

#include "ws.h"

#include <pthread.h>

/* Functions of the interpreter in this process; see Python's C API for what they do. */
typedef struct ws_python {
    void (*Py_IncRef)(void *object);
    void (*Py_DecRef)(void *object);
    void *(*PyObject_Type)(void *object);
    void *(*PyObject_GetAttrString)(void *object, const char *name);
    void *(*PyLong_AsVoidPtr)(void *object);
    void *(*PyLong_FromVoidPtr)(void *address);
    void *(*PyLong_FromUnsignedLong)(unsigned long number);
    void *(*PyBytes_FromStringAndSize)(const char *data, ptrdiff_t length);
    int (*PyBytes_AsStringAndSize)(void *object, char **data, ptrdiff_t *length);
    void *(*PyUnicode_DecodeUTF8)(const char *data, ptrdiff_t length, const char *errors);
    const char *(*PyUnicode_AsUTF8AndSize)(void *object, ptrdiff_t *length);
    /* May be PyObject_VectorcallDict instead: `names` is always NULL. */
    void *(*PyObject_Vectorcall)(void *callable, void *const *args, size_t count, void *names);
    void *(*PyObject_VectorcallMethod)(void *name, void *const *args, size_t count, void *names);
    void *(*PyType_GenericAlloc)(void *type, ptrdiff_t items);
    int (*PyDict_SetItem)(void *dict, void *key, void *value);
    int (*PyDict_DelItem)(void *dict, void *key);
    ptrdiff_t (*PyTuple_Size)(void *tuple);
    void *(*PyTuple_GetItem)(void *tuple, ptrdiff_t index); /* borrowed */
    void *(*PyErr_GetRaisedException)(void); /* NULL before Python 3.12, which has the next three */
    void (*PyErr_Fetch)(void **type, void **value, void **traceback);
    void (*PyErr_NormalizeException)(void **type, void **value, void **traceback);
    int (*PyException_SetTraceback)(void *exception, void *traceback);
    void (*PyErr_Clear)(void);
    void (*PyErr_WriteUnraisable)(void *where);
    int (*PyErr_BadArgument)(void);
    int (*PyContext_Enter)(void *context);
    int (*PyContext_Exit)(void *context);
    void *(*PyContext_Copy)(void *context);
    /* NULL before Python 3.10: then C never steps a coroutine. */
    int (*PyIter_Send)(void *iterator, void *value, void **result);
    void *(*PyEval_SaveThread)(void);
    void (*PyEval_RestoreThread)(void *thread);
} ws_python;

/* A task of asyncio that C makes the current one while it runs a step of a coroutine: the part of a
 * Stepper (_core/stepper.py) that C knows. Python owns it; nothing here is a reference. */
typedef struct ws_bridge_stepper {
    void *task;
    void *parking;   /* what the coroutine awaits if C is to run the next step */
    void *coroutine; /* a session that waits for a message; NULL if none does */
    bool busy;       /* C is running a step, or a function that returns the coroutine */
    bool changed;    /* the coroutine has cancelled or changed its task */
} ws_bridge_stepper;

/* What the bridge knows of one server: its ws_config.user. */
typedef struct ws_bridge {
    unsigned long owner; /* pthread_self() of the thread that may use the server; 0 if none may */
    ws_server *server;   /* NULL once it has been freed */
    void *thread;        /* state of that thread while it waits without the GIL */
    void *none;          /* None */
    void *str_type;      /* str */
    void *bytes_type;    /* bytes */
    void *text;          /* OpCode.TEXT */
    void *binary;        /* OpCode.BINARY */
    void *status[3];     /* SendStatus.BACKPRESSURE, SUCCESS, DROPPED */
    void *flag[2];       /* False, True */
    void *optional[3];   /* "opcode", "compress", "exclude_self": interned names of arguments */
    void *send;          /* name of the method that does what ws_bridge_send does not */
    void *publish;       /* the same for ws_bridge_publish and ws_bridge_publish_app */
    void *socket_type;   /* WebSocket */
    void *sockets;       /* dict: address of a ws_conn -> its WebSocket */
    void *opened;        /* opened(socket, route, request, target or None) */
    void *closing;       /* closing(socket, code, reason, by_peer, address, port); True if
                            `closed` is not to be called where the closing handshake is completed */
    void *closed;        /* closed(socket, clean, code, reason) */
    void *failed;        /* failed(socket, exception): the message handler raised the exception */
    void *returned;      /* returned(socket, result): the message handler did not return None */
    /* For requests. */
    void *runtime;       /* Runtime; it owns this struct, so this is not a reference */
    void *context;       /* contextvars.Context that those of requests are copied from */
    void *request_type;  /* Request */
    void *response_type; /* Response */
    void *end;           /* name of the method that does what ws_bridge_end does not */
    void *ended;         /* name of a method: ended(error), after ws_request_respond */
    void *handled;       /* handled(response, result): the request handler has returned, and
                            something is left to do */
    void *raised;        /* raised(response, exception): the request handler raised it */
    void *current;       /* the Response whose handler C is calling, or NULL; borrowed */
    /* For coroutines; all are NULL or 0 while the app runs without asyncio. */
    void *loop;                /* the asyncio loop */
    void *enter_task;          /* enter_task(loop, task), and the reverse */
    void *leave_task;
    ws_bridge_stepper *spare;  /* its task is idle, and may run handlers; may be NULL */
    ptrdiff_t weak_references; /* where a task has its weak references; NULL there means none */
    unsigned long queued;      /* counts the events that had to wait for a handler that C runs */
    /* outcome[i](socket, coroutine, result): what C leaves to Python. The coroutine raised (0),
     * returned, and something is left to do (1), or awaits something (2). */
    void *outcome[3];
} ws_bridge;

/* What the bridge knows of one route: its ws_behavior.user. */
typedef struct ws_bridge_route {
    ws_bridge *bridge;
    void *route;     /* Route; it owns this struct, so this is not a reference */
    void *message;   /* handler(socket, message, opcode) */
    void *coroutine; /* the same if it is a coroutine function that C may begin; else NULL */
    void *request;   /* handler(response, request) */
} ws_bridge_route;

/* A coroutine handler of the socket is under way, and all events wait. */
#define WS_BRIDGE_BUSY ((ws_bridge_stepper *)1)

/* The part of a WebSocket object that follows its header. The object is ws_conn_user. */
typedef struct ws_bridge_socket {
    ws_conn *conn;     /* NULL once the connection is closed */
    ws_bridge *bridge; /* NULL if no connection belongs to the object */
    void *context;     /* contextvars.Context of its handlers; a reference that the object holds.
                          NULL until `opened` has initialized the object */
    ws_bridge_stepper *stepper; /* of its session; WS_BRIDGE_BUSY; or NULL */
    void *key;         /* of the object in ws_bridge.sockets, which owns it */
    uint64_t id;       /* ws_conn_get_id */
    uint32_t latency;  /* ws_conn_latency, once the connection is closed */
    bool settled;      /* `closing` returned True */
} ws_bridge_socket;

/* The part of a Request object that follows its header. No other place has the address of the
 * request: see ws_request_track. */
typedef struct ws_bridge_request {
    ws_request *request; /* NULL once the request is over */
    /* The slots of the class, in alphabetical order, as Python has them. */
    void *body;
    void *known;
    void *preserved;
    void *runtime;
    void *user_data;
} ws_bridge_request;

/* The part of a Response object that follows its header. */
typedef struct ws_bridge_response {
    const void *key; /* the address of the request, which it may outlive: to be compared only */
    ws_bridge *bridge;
    int status;
    bool aborted;   /* the client has left, or the connection was dropped */
    bool deferred;  /* ws_request_defer was called */
    bool last;      /* the connection closes after the answer */
    bool responded; /* the answer was given */
    bool upgrades;  /* it is an opening handshake */
    /* The slots of the class, in alphabetical order, as Python has them. */
    void *abort_handler;
    void *before_release;
    void *context;
    void *headers;
    void *later;
    void *parts;
    void *reason;
    void *remote;
    void *asked; /* Request */
    void *route;
    void *runtime;
    void *socket;
    void *user_data;
} ws_bridge_response;

/* Must be called once per process, before all other functions. `functions` is copied; `size` is
 * sizeof(ws_python) of the caller. `header` is the size of the object header that ws_bridge_socket
 * follows. Returns WS_OK or WS_EABI. */
WS_API int ws_bridge_setup(const ws_python *functions, size_t size, size_t header);

/* ---- for bridge_http.c ---- */

/* The functions of the interpreter. They are the same for all servers of the process; objects would
 * belong to one interpreter. */
extern ws_python ws__python;

/* Returns whether this thread may use the server. */
static inline bool ws__bridge_owns(const ws_bridge *bridge)
{
    return bridge->owner == (unsigned long)pthread_self();
}

/* Returns the object, with one reference more. */
static inline void *ws__bridge_reference(void *object)
{
    ws__python.Py_IncRef(object);
    return object;
}

/* Size of the header of an object. */
extern size_t ws__bridge_header_size;

/* Returns the part of an object that follows its header. */
static inline void *ws__bridge_part(void *object)
{
    return (char *)object + ws__bridge_header_size;
}

/* Returns function(*args), or NULL with an exception set. args[-1] must be writable. */
void *ws__bridge_call(void *function, void *const *args, size_t count);

/* Clears the exception that is set, and returns it. */
void *ws__bridge_take_exception(void);

/* Calls function(object, what). Returns false if it raised an exception. */
bool ws__bridge_notify(void *function, void *object, void *what);

/* Sets *data and *length to the bytes of a str or bytes object. `values` are this object, its
 * opcode and `compress`. Returns its opcode, with WS_COMPRESS if `compress` is True; 0 if Python
 * must handle the call. */
int ws__bridge_prepare(const ws_bridge *bridge, void *const values[3], const char **data,
                       ptrdiff_t *length);

/* Returns self.<method>(*args, **names). */
void *ws__bridge_call_method(void *method, void *self, void *const *args, ptrdiff_t count,
                             void *names);

/* ---- messages and sockets ---- */

/* A ws_config.before_wait that releases the GIL. */
WS_API void ws_bridge_before_wait(void *user);

/* A ws_config.after_wait that takes the GIL back. */
WS_API void ws_bridge_after_wait(void *user);

/* A ws_behavior.on_open that makes the WebSocket object, puts it into ws_bridge.sockets, which
 * holds the reference, and calls ws_bridge.opened. */
WS_API void ws_bridge_on_open(ws_conn *conn, void *user);

/* A ws_behavior.on_message that calls ws_bridge_route.message. */
WS_API void ws_bridge_on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user);

/* A ws_behavior.on_close that calls ws_bridge.closing. */
WS_API void ws_bridge_on_close(ws_conn *conn, int code, const char *reason, size_t length,
                               void *user);

/* A ws_behavior.on_closed that removes the object from ws_bridge.sockets, and calls
 * ws_bridge.closed. */
WS_API void ws_bridge_on_closed(ws_conn *conn, bool clean, int code, const char *reason,
                                size_t length, void *user);

/* The method WebSocket.send (METH_FASTCALL | METH_KEYWORDS). Passes whole messages of type str and
 * bytes to ws_conn_send, and every other call to the method called ws_bridge.send. Returns a new
 * reference, or NULL with an exception set. */
WS_API void *ws_bridge_send(void *self, void *const *args, ptrdiff_t count, void *names);

/* The method WebSocket.publish, of the same kind. Passes whole messages of type str and bytes to
 * ws_conn_publish, and every other call to the method called ws_bridge.publish. */
WS_API void *ws_bridge_publish(void *self, void *const *args, ptrdiff_t count, void *names);

/* The method App.publish, likewise with ws_server_publish. An App has the address of its ws_bridge
 * in the attribute _bridge_address. */
WS_API void *ws_bridge_publish_app(void *self, void *const *args, ptrdiff_t count, void *names);

#endif
