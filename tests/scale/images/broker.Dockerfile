# RabbitMQ as the appliance's image has it from Debian's packages, laid out as the official image of
# it is: for the tests of deploy/compose/scale on machines that reach no registry of images.
ARG IMAGE=queue-appliance
FROM ${IMAGE}
USER root
# Debian's /usr/sbin/rabbitmq-server is for root and its service manager only.
RUN install -d -o rabbitmq -g rabbitmq -m 0700 /var/lib/rabbitmq \
 && rm -f /etc/rabbitmq/rabbitmq-env.conf
# Khepri from the first start, as RabbitMQ 4.2 has it: 4.0 wants to be told all that it enables.
ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    RABBITMQ_FEATURE_FLAGS=khepri_db,message_containers_deaths_v2,quorum_queue_non_voters,rabbit_exchange_type_local_random,rabbitmq_4.0.0
HEALTHCHECK NONE
WORKDIR /var/lib/rabbitmq
VOLUME /var/lib/rabbitmq
ENTRYPOINT []
CMD ["rabbitmq-server"]
